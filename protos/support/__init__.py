"""Helpers of all three programs that are no contract: options, strict decoding, this machine, significance."""
