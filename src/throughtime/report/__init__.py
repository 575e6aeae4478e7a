"""What people look at: figures, pages that open without a network, and JUnit XML."""
