"""What can be checked in a user's file, and how it is run: candidates, data, losses, pairs."""
