"""Code that the example specs call: functions of input folders, an output folder and plain arguments."""
