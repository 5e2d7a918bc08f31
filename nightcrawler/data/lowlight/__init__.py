"""Low light: a camera model that darkens bright clips, and enhancement that brightens dark ones."""
