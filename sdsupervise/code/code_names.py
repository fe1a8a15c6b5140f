"""The names that a service's code uses, which show what it can do before it runs."""

from types import CodeType, FunctionType


def names_used(cls: type, name: str) -> bool:
    """Return whether a method that the class defines, or inherits from a class of another package, uses this name.

    The name is an attribute or a global. Uses in helper functions of other modules are not found.
    """
    functions = [
        member
        for base in cls.__mro__
        if base.__module__.partition(".")[0] != "sdsupervise"
        for member in vars(base).values()
        if isinstance(member, FunctionType)
    ]
    codes: list[CodeType] = [function.__code__ for function in functions]
    while codes:
        code = codes.pop()
        if name in code.co_names:
            return True
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return False
