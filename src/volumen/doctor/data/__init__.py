"""What a volume and a division of volumes say of themselves."""
