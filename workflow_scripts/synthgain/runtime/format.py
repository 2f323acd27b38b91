"""The one number by which this package counts in the code digest."""

# Raise it when what the package writes changes: manifests, tables, states, seals. Everything is then computed again.
FORMAT = 1
