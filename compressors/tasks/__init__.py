"""What the offline stage alone needs of a task: how it is learned, how its networks are checked, what tables show."""
