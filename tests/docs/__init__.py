"""What the documents say is true: commands are run, tables and pages are made from the code."""
