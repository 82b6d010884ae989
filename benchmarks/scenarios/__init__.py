"""The scenarios. Each module has ``measure(system, **size)``, which measures one system once."""
