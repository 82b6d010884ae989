"""What is measured. Each module has ``measure(system, **size)``, which runs one system once."""
