"""What Starlette and FastAPI document for WebSockets works behind the middleware.

The programs here make the same calls as the documentation, in the same order; our only line is the one that adds
the middleware. All but one are written for these tests; that one is read from FastAPI itself.
"""
