"""The stabilizer among real middleware, instrumentation and frameworks: never worse than without it."""
