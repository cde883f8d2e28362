// The market's signed types, as viem wants them.
export const types = {
  Offer: [
    { name: 'id', type: 'bytes32' },
    { name: 'expire', type: 'uint256' },
    { name: 'supplierId', type: 'bytes32' },
    { name: 'chainId', type: 'uint256' },
    { name: 'requestHash', type: 'bytes32' },
    { name: 'optionsHash', type: 'bytes32' },
    { name: 'paymentHash', type: 'bytes32' },
    { name: 'cancelHash', type: 'bytes32' },
    { name: 'transferable', type: 'bool' },
    { name: 'checkIn', type: 'uint256' },
    { name: 'checkOut', type: 'uint256' }
  ]
}
