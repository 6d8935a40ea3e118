"""Does every setting act, and is the objective that runs the one that is configured?"""
