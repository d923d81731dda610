"""What a user writes, and the documents that the parts of Modelwright exchange. No I/O."""
