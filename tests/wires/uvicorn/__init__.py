"""The wires to uvicorn, on the real server in this process."""
