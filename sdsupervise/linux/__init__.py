"""What we need of the kernel, each piece one thin module. None of them knows what a reload is."""
