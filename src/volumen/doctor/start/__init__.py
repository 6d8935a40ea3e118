"""Does the run start as it should, and can it learn at all?"""
