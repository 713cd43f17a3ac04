"""Other tools and the limits of the machine, measured beside this project on the same data."""
