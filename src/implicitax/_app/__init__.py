"""The command line: a user of the package like any other. Needs the extra `cli`."""
