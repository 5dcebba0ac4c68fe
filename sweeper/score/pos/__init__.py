"""Parts of speech: the words of a text with their universal tags, and the words of its tokens."""
