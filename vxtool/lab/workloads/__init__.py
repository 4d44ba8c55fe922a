"""The programs that come with the tool and run in tasks' containers: small, quick to start, forked from an agent that is already there.

Each module has `listen(env)`: opens its sockets and returns what is to be called then, which serves until it is killed. They know sockets and their
own protocol, and nothing of labs; they write to descriptors 1 and 2, because the streams of a forked process hold what its parent had to say.
"""
