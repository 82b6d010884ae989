"""Small applications, one theme each. Every file says in its first lines how to start it."""
