"""The vector store behind one port; Milvus Lite is the embedded default."""
