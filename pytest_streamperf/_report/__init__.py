"""What a run says of its checks: one document, and its faces."""
