"""Each example does what its docstring promises."""
