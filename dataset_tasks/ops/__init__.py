"""One module an operation, and the requests that ask for them."""
