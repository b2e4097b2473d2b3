"""What every room uses: argument checks, atomic file writes, figures."""
