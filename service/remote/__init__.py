"""The other end of the HTTP interface: what the client is made of."""
