"""Each example does what its first lines promise."""
