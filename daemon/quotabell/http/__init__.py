"""The HTTP interface: routes, authorisation, problem answers."""
