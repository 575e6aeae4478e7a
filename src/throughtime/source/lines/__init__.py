"""What each line of a user's backward pass computes, and which line is wrong."""
