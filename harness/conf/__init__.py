"""Configuration as data: grids, scales, launchers and data, one YAML file each."""
