"""Programs nobody here wrote, reloaded under load: `python -m tests.load` counts what their clients saw."""
