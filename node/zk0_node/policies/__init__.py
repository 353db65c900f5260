"""Robot policies as zk0 uses them. Importing this package imports neither torch nor LeRobot."""
