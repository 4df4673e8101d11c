"""The harness: what is to be done, what is done, where it is done, and what came out of it."""
