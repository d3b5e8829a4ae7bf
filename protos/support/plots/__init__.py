"""What the plots of all programs share."""
