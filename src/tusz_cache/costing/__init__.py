"""What training costs from a bucket's mount, from a volume, and from a packed store on a volume."""
