"""The demonstration: a throwaway organisation on a real private Postfix, and its launchers."""
