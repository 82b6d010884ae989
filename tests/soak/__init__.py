"""Long tests, run by ``make soak``: their files are not named as pytest looks for them."""
