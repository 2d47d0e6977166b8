"""The options of the commands, one file a command; nothing here loads torch."""
