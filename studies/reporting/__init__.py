"""What `bench report` is made of: the scope that is reported, its sections as blocks, and a writer for each format."""
