"""What a person looks at: figures, and pages that open without a network."""
