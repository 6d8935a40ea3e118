"""What does the objective ask for, and what can it reach?"""
