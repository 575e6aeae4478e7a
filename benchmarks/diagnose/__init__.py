"""Does the diagnosis name the fault that was put in?"""
