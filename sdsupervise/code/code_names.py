"""Which names a service's code uses: what it knows how to do, before it does it."""

from types import CodeType, FunctionType


def names_used(cls: type, name: str) -> bool:
    """Some method that a class defines, or inherits from a class that is not ours, uses an attribute or a global.

    What is used only in a helper of another module is hidden from us.
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
