"""What lies on disk: blobs, images, layers, containers, trash."""
