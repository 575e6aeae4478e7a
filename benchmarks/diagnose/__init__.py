"""Does the diagnosis name the fault that was inserted?"""
