//! The contracts' interfaces, written by hand from the deployed ABI: only what is called or heard.

use alloy::sol;

sol! {
    #[derive(Debug)]
    struct OfferPayload {
        bytes32 id;
        uint256 expire;
        bytes32 supplierId;
        uint256 chainId;
        bytes32 requestHash;
        bytes32 optionsHash;
        bytes32 paymentHash;
        bytes32 cancelHash;
        bool transferable;
        uint256 checkIn;
        uint256 checkOut;
    }

    #[derive(Debug)]
    struct Payment {
        bytes32 id;
        uint256 price;
        address asset;
    }

    #[derive(Debug)]
    struct Cancellation {
        uint256 time;
        uint256 penalty;
    }

    #[derive(Debug)]
    struct EntityRow {
        bytes32 kind;
        bytes32 id;
        address owner;
        bool enabled;
        address signer;
    }

    // `status` is read as a plain number, so that a value from a newer contract is named, not undecodable.
    #[derive(Debug)]
    interface IMarket {
        event Status(bytes32 offerId, uint8 status, address sender);
        event Transfer(address indexed from, address indexed to, uint256 indexed tokenId);
        event Paused(address account);
        event Unpaused(address account);

        function initialize(address owner, string name, string version, address config, address entities) external;
        function deal(OfferPayload offer, Payment[] paymentOptions, bytes32 paymentId, bytes32 retailerId, bytes[] signs) external;
        function claim(bytes32 offerId) external;
        function reject(bytes32 offerId, bytes32 reason) external;
        function refund(bytes32 offerId) external;
        function cancel(bytes32 offerId, Cancellation[] options) external;
        function checkIn(bytes32 offerId, bytes[] signs) external;
        function checkOut(bytes32 offerId) external;
        function safeTransferFrom(address from, address to, uint256 tokenId) external;
        function offerTokens(bytes32 offerId) external view returns (uint256);
        function tokenOffers(uint256 tokenId) external view returns (bytes32);
        function resolveTokenId(uint256 tokenId) external view returns (bytes32);
        function ownerOf(uint256 tokenId) external view returns (address);
        function config() external view returns (address);
        function entities() external view returns (address);
        function pause() external;
        function unpause() external;
        function deals(bytes32 offerId) external view returns (uint256 created, OfferPayload offer, bytes32 retailerId, address buyer, uint256 price, address asset, uint8 status);
        function paused() external view returns (bool);
    }

    #[derive(Debug)]
    interface IEntities {
        event EntityRegistered(address owner, bytes32 id);
        event SignerChanged(bytes32 id, address sender, address oldSigner, address newSigner);
        event ToggleEnabled(bytes32 id, address sender, bool enabled);
        event Deposit(bytes32 id, address sender, uint256 value);
        event Withdraw(bytes32 id, address sender, uint256 value);

        function initialize(address owner, address config) external;
        function register(bytes32 kind, bytes32 salt, address signer) external;
        function toggleEntity(bytes32 id) external;
        function changeSigner(bytes32 id, address signer) external;
        function addDeposit(bytes32 id, uint256 value) external;
        function addDeposit(bytes32 id, uint256 value, uint256 deadline, bytes sign) external;
        function withdrawDeposit(bytes32 id, uint256 value) external;
        function getEntity(bytes32 id) external view returns (EntityRow);
        function balanceOfEntity(bytes32 id) external view returns (uint256);
        function isEntityEnabled(bytes32 id) external view returns (bool);
    }

    #[derive(Debug)]
    interface IConfig {
        function initialize(address owner, address asset, uint256 claimPeriod, uint256 protocolFee, uint256 retailerFee, address feeRecipient, bytes32[] kinds, uint256[] minDeposits) external;
        function getNumber(bytes32 name) external view returns (uint256);
        function getAddress(bytes32 name) external view returns (address);
        function getMinDeposit(bytes32 kind) external view returns (uint256);
        function variables() external view returns (bytes32[] memory);
    }

    #[derive(Debug)]
    interface IErc20 {
        function initialize(string name, string symbol, address owner) external;
        function mint(address to, uint256 amount) external;
        function approve(address spender, uint256 amount) external returns (bool);
        function transfer(address to, uint256 amount) external returns (bool);
        function permit(address owner, address spender, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external;
        function allowance(address owner, address spender) external view returns (uint256);
        function balanceOf(address owner) external view returns (uint256);
        function name() external view returns (string);
        function nonces(address owner) external view returns (uint256);
        function decimals() external view returns (uint8);
        function symbol() external view returns (string);
    }

    /// EIP-2612.
    struct Permit {
        address owner;
        address spender;
        uint256 value;
        uint256 nonce;
        uint256 deadline;
    }
}
