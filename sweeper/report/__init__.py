"""Tables and figures from estimates."""
