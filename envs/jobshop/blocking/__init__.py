"""Job shops without buffers, whose machines may be shut down: who enters a free machine?"""
