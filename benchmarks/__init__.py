"What our code costs beside other code and beside the least it could cost. Not part of the package, not part of the tests."
