"""Its place in the layers: the lock that lets one caller compute while others take the old."""
