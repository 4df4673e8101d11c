curve=None
