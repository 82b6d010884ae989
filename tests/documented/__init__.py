"""What Starlette and FastAPI document for WebSockets, behind the middleware.

The programs here call what the documentation calls, in its order; the only line of ours is the one
that adds the middleware. They are written anew, except one that is read from FastAPI itself.
"""
